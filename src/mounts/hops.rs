//! Gateways that mount each other: what a request came through is told to the remotes that it is passed on to, so that a circle ends.

use std::future::Future;

use http::HeaderMap;

/// The gateways that a request came through, if it says so. Most come from a client.
#[must_use]
pub fn hops(headers: &HeaderMap) -> Option<String> {
    #[cfg(feature = "s3")]
    let came = {
        const NAME: http::HeaderName = http::HeaderName::from_static(sluice_provider_s3::HOPS_HEADER);
        headers.get(NAME)?.to_str().ok().map(str::to_owned)
    };
    #[cfg(not(feature = "s3"))]
    let came = {
        let _ = headers;
        None
    };
    came
}

/// Does the work of a request that came through these gateways.
pub async fn with_hops<F: Future>(came: String, work: F) -> F::Output {
    #[cfg(feature = "s3")]
    let done = sluice_provider_s3::with_hops(Some(came), work).await;
    #[cfg(not(feature = "s3"))]
    let done = {
        drop(came);
        work.await
    };
    done
}
