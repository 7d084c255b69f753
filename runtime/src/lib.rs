//! What every process needs: tracing, shutdown, supervised tasks, the admin port.
