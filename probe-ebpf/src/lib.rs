//! kstamp's kernel side, one module per step that a packet takes. The programs themselves are in `main.rs`.

#![no_std]
#![feature(asm_experimental_arch)]

mod clock;
pub mod collect;
pub mod count;
pub mod egress;
pub mod hook;
pub mod maps;
mod object_needs;
pub mod receive;
pub mod reflect;
