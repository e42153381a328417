//! The metric table, tracing set-up, request ids.

use std::sync::Arc;

/// The id of a request: 16 upper-case hexadecimal digits, as in `x-amz-request-id`. In the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);
