//! The endpoint over the real engine, without a socket.

mod app;
mod events;
mod pages;
mod streams;
