//! Health, metrics, admin JSON API.
