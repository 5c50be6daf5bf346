//! kstamp's kernel side, one module per step that a packet takes. The programs themselves are in `main.rs`.

#![no_std]
#![feature(asm_experimental_arch)]

mod atomic;
pub mod clock;
pub mod collect;
pub mod count;
mod echo;
pub mod egress;
pub mod hook;
mod judge;
pub mod maps;
mod object_needs;
mod payload;
mod policy;
pub mod receive;
pub mod reflect;
