//! kstamp's kernel side, one module per step that a packet takes. The programs themselves are in `main.rs`.

#![no_std]
#![feature(asm_experimental_arch, stmt_expr_attributes)]

pub mod atomic;
mod classify;
pub mod clock;
mod collect;
pub mod egress;
pub mod hook;
mod maps;
mod object_needs;
mod payload;
mod policy;
pub mod receive;
mod reflect;
mod reply_plan;
mod session;
