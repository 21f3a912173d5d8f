//! The testing kit: that it sees what browsers see, and that each of its assertions can fail.

mod app;
mod cluster;
mod notices;
mod pages;
mod stories;
