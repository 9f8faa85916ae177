//! Vehicles enter and leave a car park; keylane turns the events into push notifications.

mod args;
mod bug;
mod dice;
mod event;
mod gateway;
mod plan;
mod processor;
mod push;
mod tally;
mod trouble;

fn main() {}
