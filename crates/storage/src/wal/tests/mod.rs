//! The WAL on the simulated disk: what is reported durable is found again, whatever the power does.

mod crash;
mod damage;
mod kit;
mod running;
