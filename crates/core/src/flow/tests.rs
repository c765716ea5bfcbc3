//! The flow as a whole, by forged requests.

mod bypass;
mod caller;
mod device;
mod legacy;
mod matrix;
mod order;
mod property;
mod settled;
mod time;
