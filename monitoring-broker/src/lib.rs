//! Subscribes for its devices, stores every message, serves live data and history.
