//! Listeners, request ids, the edge service.
