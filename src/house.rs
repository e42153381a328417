//! The house test: imports keep the floors.
