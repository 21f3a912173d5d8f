//! FastState's demo.
mod chat;
mod counter;
mod home;
mod layout;
fn main(){}
