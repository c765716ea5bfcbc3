//! Many nodes as one: the program itself, several times, over a real Postgres and a real Redis.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod blocks;
mod clocks;
mod database_down;
mod ended;
mod load;
mod lone;
mod node;
mod once;
mod planted;
mod pushes;
mod redis_down;
mod replay_loss;
mod round_trips;
mod scene;
mod sessions;
mod starts;
mod stream;
mod strict;
mod supabase;
mod times;
