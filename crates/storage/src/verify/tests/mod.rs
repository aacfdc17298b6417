//! A store is built, stopped or copied while it runs, and then spoilt in every way that `verify` must see.

mod dumping;
mod kit;
mod spoiling;
mod stops;
