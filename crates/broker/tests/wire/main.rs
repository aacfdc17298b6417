//! The broker on the real system, seen through single requests.

mod admin;
mod lifecycle;
mod produce_fetch;
mod support;
