//! The drain signal, supervised tasks, the clock.
