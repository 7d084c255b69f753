//! Subscribes for its devices, stores every message, serves live data and history.

pub mod api;
