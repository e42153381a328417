//! Bodies in chunks that are signed with Version 4A (`STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD` and `…-TRAILER`). The framing and the chain of
//! signatures are those of Version 4 (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>); a signature is ECDSA in DER, hexadecimal, filled up with `*` to
//! 144 characters, and the next one signs it without these.
//!
//! As the head of the request, so each chunk: it is verified here, and goes on with the signature of Version 4 that its sender would have made.
//! No byte goes on before its chunk has been verified; one chunk is held meanwhile.

use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use s3s::StdError;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError as Wrong;
use s3s_sigv4::AmzDate;
use zeroize::Zeroizing;

use crate::transfer::{Algorithm, Hasher};

/// What `x-amz-content-sha256` says of such a body begins so.
pub(super) const MODE: &str = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD";
/// The longest line before a chunk in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// The most that may come after the last chunk in bytes.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// The trailer that signs the others.
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// The payload mode of Version 4 that is the same otherwise; `None` for what is none of these.
pub(super) fn mode_of_version_4(payload: &str) -> Option<&'static str> {
    match payload.strip_prefix(MODE)? {
        "" => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        "-TRAILER" => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        _ => None,
    }
}

/// A body, chunk by chunk as it has been verified.
pub(in crate::s3) type Chunks = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, StdError>> + Send + Sync>>>;

/// The two chains of signatures: the one that comes, and the one that goes on.
pub(super) struct Chain {
    pub(super) key: VerifyingKey,
    pub(super) date: AmzDate,
    pub(super) region: String,
    pub(super) service: String,
    /// The key of Version 4 for this day, region and service.
    pub(super) signing_key: Zeroizing<[u8; 32]>,
    /// The signature before, without what it was filled up with.
    pub(super) before: String,
    /// The signature of Version 4 before.
    pub(super) before_version_4: String,
}

/// The body with chunks signed by Version 4. A chunk may have `max` bytes.
pub(super) fn translated<B>(body: B, chain: Chain, trailers: bool, max: usize) -> Chunks
where
    B: Body<Data = Bytes> + Send + Sync + Unpin + 'static,
    B::Error: Into<StdError>,
{
    let state = Translation { from: Reader { body, rest: Bytes::new() }, chain, trailers, max, ended: false };
    let chunks = stream::try_unfold(state, |mut state| async move {
        let pieces = state.next().await?;
        Ok::<_, StdError>(pieces.map(|pieces| (pieces, state)))
    });
    let frames = chunks.map_ok(|pieces| stream::iter(pieces).map(|piece| Ok::<_, StdError>(Frame::data(piece))));
    StreamBody::new(Box::pin(frames.try_flatten()))
}

struct Translation<B> {
    from: Reader<B>,
    chain: Chain,
    trailers: bool,
    max: usize,
    ended: bool,
}

struct Reader<B> {
    body: B,
    /// What came and was not looked at.
    rest: Bytes,
}

// === impl Chain ===

impl Chain {
    /// Verifies what comes next, and says what Version 4 would sign it with. What is signed is its `kind`, and `what` after the signature before.
    fn next(&mut self, kind: &str, given: &str, what: &str) -> Result<&str, Wrong> {
        let given = given.trim_end_matches('*');
        let text = |algorithm: &str, region: &str, before: &str| {
            let (moment, day, service) = (self.date.fmt_iso8601(), self.date.fmt_date(), &self.service);
            format!("{algorithm}-{kind}\n{moment}\n{day}{region}/{service}/aws4_request\n{before}\n{what}")
        };
        let bytes = hex::decode(given).map_err(|_| Wrong::SignatureMismatch)?;
        let signature = DerSignature::try_from(bytes.as_slice()).map_err(|_| Wrong::SignatureMismatch)?;
        let signed = text("AWS4-ECDSA-P256-SHA256", "", &self.before);
        self.key.verify(signed.as_bytes(), &signature).map_err(|_| Wrong::SignatureMismatch)?;
        let signed = text("AWS4-HMAC-SHA256", &format!("/{}", self.region), &self.before_version_4);
        self.before_version_4 = hex::encode(s3s_sigv4::calculate_signature_with_key(&signed, &self.signing_key));
        given.clone_into(&mut self.before);
        Ok(&self.before_version_4)
    }

    fn chunk(&mut self, given: &str, data: &[Bytes]) -> Result<&str, Wrong> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        data.iter().for_each(|piece| hasher.update(piece));
        let (nothing, digest) = (digest(b""), hex::encode(hasher.finish()));
        self.next("PAYLOAD", given, &format!("{nothing}\n{digest}"))
    }

    fn trailers(&mut self, given: &str, canonical: &str) -> Result<&str, Wrong> {
        self.next("TRAILER", given, &digest(canonical.as_bytes()))
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Hasher::once(Algorithm::Sha256, bytes))
}

// === impl Translation ===

impl<B> Translation<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    /// The next chunk; `None` after the last, which has no data.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StdError> {
        if self.ended {
            return Ok(None);
        }
        let line = self.from.line().await?;
        let (size, signature) = parse(&line).ok_or(Wrong::FormatError)?;
        if size > self.max {
            return Err(Wrong::ChunkDataTooLarge(size, self.max).into());
        }
        let mut data = self.from.take(size).await?;
        let signature = self.chain.chunk(signature, &data)?;
        let head = Bytes::from(format!("{size:x};chunk-signature={signature}\r\n"));
        if size == 0 {
            self.ended = true;
            let end = self.from.left_over().await?;
            let end = if self.trailers { self.signed_trailers(&end)? } else { end };
            if !self.trailers && !matches!(&end[..], b"" | b"\r\n") {
                return Err(Wrong::FormatError.into());
            }
            return Ok(Some(vec![head, end]));
        }
        if self.from.take(2).await?.concat() != b"\r\n" {
            return Err(Wrong::FormatError.into());
        }
        data.insert(0, head);
        data.push(Bytes::from_static(b"\r\n"));
        Ok(Some(data))
    }

    /// The trailers, with the signature of Version 4.
    fn signed_trailers(&mut self, text: &[u8]) -> Result<Bytes, Wrong> {
        let text = std::str::from_utf8(text).map_err(|_| Wrong::FormatError)?;
        let mut fields = Vec::new();
        let mut signature = None;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Wrong::FormatError)?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii());
            if name != TRAILER_SIGNATURE {
                fields.push((name, value));
            } else if signature.replace(value).is_some() {
                return Err(Wrong::FormatError);
            }
        }
        fields.sort();
        let canonical: String = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let signature = self.chain.trailers(signature.ok_or(Wrong::FormatError)?, &canonical)?;
        Ok(Bytes::from(format!("{canonical}{TRAILER_SIGNATURE}:{signature}\r\n\r\n")))
    }
}

/// `SIZE;chunk-signature=SIGNATURE`, the size hexadecimal.
fn parse(line: &[u8]) -> Option<(usize, &str)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let (size, signature) = line.split_once(";chunk-signature=")?;
    let plain = (1..=8).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = u32::from_str_radix(size, 16).ok().filter(|_| plain)?;
    Some((usize::try_from(size).ok()?, signature))
}

// === impl Reader ===

impl<B> Reader<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    /// Sees to it that something is there to be looked at; false at the end.
    async fn fill(&mut self) -> Result<bool, StdError> {
        while self.rest.is_empty() {
            let Some(frame) = self.body.frame().await else { return Ok(false) };
            if let Ok(data) = frame.map_err(|error| Wrong::Underlying(error.into()))?.into_data() {
                self.rest = data;
            }
        }
        Ok(true)
    }

    /// A line with its end.
    async fn line(&mut self) -> Result<Vec<u8>, StdError> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if !self.fill().await? {
                return Err(Wrong::Incomplete.into());
            }
            let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |at| at + 1);
            if line.len() + end > MAX_LINE_BYTES {
                return Err(Wrong::ChunkMetaTooLarge(line.len() + end, MAX_LINE_BYTES).into());
            }
            line.extend_from_slice(&self.rest[..end]);
            self.rest.advance(end);
        }
        Ok(line)
    }

    /// So many bytes.
    async fn take(&mut self, mut size: usize) -> Result<Vec<Bytes>, StdError> {
        let mut pieces = Vec::new();
        while size > 0 {
            if !self.fill().await? {
                return Err(Wrong::Incomplete.into());
            }
            let piece = self.rest.split_to(size.min(self.rest.len()));
            size -= piece.len();
            pieces.push(piece);
        }
        Ok(pieces)
    }

    /// All that is left.
    async fn left_over(&mut self) -> Result<Bytes, StdError> {
        let mut all = Vec::new();
        while self.fill().await? {
            let size = all.len() + self.rest.len();
            if size > MAX_TRAILER_BYTES {
                return Err(Wrong::TrailersTooLarge(size, MAX_TRAILER_BYTES).into());
            }
            all.extend_from_slice(&std::mem::take(&mut self.rest));
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Of the access key in the documentation of Version 4 and of its chunks (65 536 and 1024 times `a`, and the last), made with another library
    /// (Python's `cryptography`): the seed, the chunks, and the trailers `first:1st`, `second:2nd` and `third:3rd`.
    const GIVEN: [&str; 5] = [
        "3045022062f8c81d1224c660bee9c5d5a95df7af8b4bc1ce0c3a4b4663f2b08f5cff2aae022100ad1d406a890d17ed00dd36616f00ea5b2664f40cfd96359fff94d9f2a8121557",
        "304602210096b073e9a97e078ff8c2f783ed92f8f97b36d5c60cf58c6236fe076ddca7dd83022100bc8334139d58513fba51981ecd5028b1a9cba58aadb4b9b73e36e31bb5e0147e",
        "3045022100efe91e036b9b73505d36b1f6d28d7c6377f1c0a029f340ff3386a5c4d0b392b40220479cb35209e20fdcb442f4c15e033e777a1a5844c67e06829f5e8eee9d4a4023",
        "3045022041ef5162318fd2650f01ed4abbdc6e15b7ab4b38f0d56b47cec1a73bea924edf022100a5e245cbf30f3a83d1384e644634e8960cf786e05b55d11c7e4f1aaef22499b5",
        "304502200d108b2b92e852b0548aabad79dba05b46cb5bf18e0c4ead7818822706492b30022100c8b54f17bf24b63181db4727241f788157870e51c41207e4bb7baf1b973f1155",
    ];
    /// What the documentation of Version 4 gives for the same chunks (sigv4-streaming.html): the seed, and each chunk.
    const DOCUMENTED: [&str; 4] = [
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    const TRAILERS: &str = "First: 1st\r\nsecond:2nd\r\nthird:3rd\r\n";

    fn chunks(signatures: &[impl AsRef<str>]) -> String {
        let mut body = String::new();
        for (size, signature) in [65_536, 1024, 0].into_iter().zip(signatures) {
            body.push_str(&format!("{size:x};chunk-signature={}\r\n{}", signature.as_ref(), "a".repeat(size)));
            body.push_str(if size == 0 { "" } else { "\r\n" });
        }
        body
    }

    fn filled(signature: &str) -> String {
        format!("{signature:*<144}")
    }

    fn sent() -> String {
        chunks(&GIVEN[1..4].iter().map(|signature| filled(signature)).collect::<Vec<_>>())
    }

    async fn come_out(body: &str, trailers: bool, frame: usize) -> Result<String, StdError> {
        let (access_key, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let date = AmzDate::parse("20130524T000000Z").unwrap();
        let chain = Chain {
            key: super::super::v4a::public_key(access_key, secret).unwrap(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
            signing_key: Zeroizing::new(s3s_sigv4::derive_signing_key(secret, &date, "us-east-1", "s3")),
            before: GIVEN[0].to_owned(),
            before_version_4: DOCUMENTED[0].to_owned(),
            date,
        };
        let frames: Vec<_> = body
            .as_bytes()
            .chunks(frame)
            .map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = translated(StreamBody::new(stream::iter(frames)), chain, trailers, 65_536);
        let whole = BodyExt::collect(body).await?;
        Ok(String::from_utf8(whole.to_bytes().to_vec()).unwrap())
    }

    async fn refused(body: &str, trailers: bool) -> String {
        come_out(body, trailers, 1000).await.unwrap_err().to_string().replace("AwsChunkedStreamError: ", "")
    }

    #[tokio::test]
    async fn chunks_go_on_with_the_signatures_of_version_4() {
        let expected = chunks(&DOCUMENTED[1..]) + "\r\n";
        for frame in [1, 7, 1000, 100_000] {
            assert!(come_out(&(sent() + "\r\n"), false, frame).await.unwrap() == expected, "in frames of {frame}");
        }
        let signed = format!("{}{TRAILERS}x-amz-trailer-signature:{}\r\n\r\n", sent(), filled(GIVEN[4]));
        for frame in [1, 100_000] {
            let all = come_out(&signed, true, frame).await.unwrap();
            let trailers = all.strip_prefix(&chunks(&DOCUMENTED[1..])).unwrap();
            let (fields, signature) = trailers.split_once("x-amz-trailer-signature:").unwrap();
            assert_eq!(fields, "first:1st\nsecond:2nd\nthird:3rd\n");
            assert!(signature.strip_suffix("\r\n\r\n").is_some_and(|text| text.len() == 64), "{signature}");
        }
    }

    #[tokio::test]
    async fn nothing_else_goes_on() {
        let end = sent() + "\r\n";
        for changed in [
            end.replacen("aaaa\r\n", "aaab\r\n", 1),
            end.replacen(GIVEN[2], GIVEN[1], 1),
            end.replacen(GIVEN[1], "", 1),
            end.replacen(GIVEN[1], "zz", 1),
            // The second chunk first.
            chunks(&[filled(GIVEN[2])]),
        ] {
            assert_eq!(refused(&changed, false).await, "SignatureMismatch");
        }
        let without_last = &end[..end.rfind("0;chunk").unwrap()];
        for cut in [without_last, &end[..1000], &end[..66_000], ""] {
            assert_eq!(refused(cut, false).await, "Incomplete", "{} bytes", cut.len());
        }
        for malformed in ["zz;chunk-signature=00\r\n", "10000\r\n", "+1;chunk-signature=00\r\n", "5;chunk-signature=00\n"] {
            assert_eq!(refused(malformed, false).await, "FormatError", "{malformed}");
        }
        assert_eq!(refused(&(end.clone() + "more"), false).await, "FormatError");
        assert!(refused("10001;chunk-signature=00\r\n", false).await.starts_with("ChunkDataTooLarge"));
        assert!(refused(&"1".repeat(2000), false).await.starts_with("ChunkMetaTooLarge"));
    }

    #[tokio::test]
    async fn trailers_must_be_signed() {
        let signature = format!("x-amz-trailer-signature:{}\r\n", filled(GIVEN[4]));
        let signed = format!("{}{TRAILERS}{signature}\r\n", sent());
        assert_eq!(refused(&signed.replace("2nd", "two"), true).await, "SignatureMismatch");
        assert_eq!(refused(&signed.replace(&signature, ""), true).await, "FormatError");
        assert_eq!(refused(&signed.replace(&signature, &signature.repeat(2)), true).await, "FormatError");
        assert_eq!(refused(&(sent() + "\r\n"), true).await, "FormatError");
        assert_eq!(refused(&signed, false).await, "FormatError", "none were declared");
        assert!(refused(&(sent() + &"x".repeat(20_000)), true).await.starts_with("TrailersTooLarge"));
    }
}
