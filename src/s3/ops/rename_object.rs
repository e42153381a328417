//! RenameObject (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_RenameObject.html>).

use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::objects::RenameRequest;
use crate::s3::call::{Answer, Call, empty};
use crate::s3::conditions;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::operation::Op;

const SOURCE: &str = "x-amz-rename-source";
const TOKEN: &str = "x-amz-client-token";

pub(crate) async fn call(call: &mut Call) -> Answer {
    let from = source(call)?;
    let token = token(call)?;
    let request =
        RenameRequest { source: conditions::rename_source(&call.headers)?, destination: conditions::read(&call.headers)?, token };
    let namespace = call.namespace()?;
    // Whoever renames reads the one and deletes it, and writes the other.
    call.check_also(Op::GetObject, &from).await?;
    call.check_also(Op::DeleteObject, &from).await?;
    let renamed = call.parts.objects.rename(&namespace, &from, &call.key, &request).await;
    renamed.map_err(|error| {
        let failure = Failure::from(error);
        if failure.code() == Code::NoSuchKey { failure.field("Key", from.clone()) } else { failure }
    })?;
    Ok(empty(StatusCode::OK))
}

/// The key of the source: `/bucket/key` or `/key`, URL-encoded.
fn source(call: &Call) -> Result<String> {
    let text = call.header(SOURCE)?.unwrap_or_default();
    let bad = |why: &'static str| Failure::argument(SOURCE, text, why);
    let path = percent_decode_str(text).decode_utf8().map_err(|_| bad("The rename source is not valid."))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    // AWS names the object alone or with its bucket, which must be the one of the destination.
    let key = path.strip_prefix(call.bucket.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path);
    if key.is_empty() { Err(bad("The rename source must mention the source key.")) } else { Ok(key.to_owned()) }
}

fn token(call: &Call) -> Result<Option<String>> {
    let Some(token) = call.header(TOKEN)? else { return Ok(None) };
    let sound = (1..=64).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    let why = "The client token must have 1 to 64 characters in the ASCII range of 33 to 126.";
    if sound { Ok(Some(token.to_owned())) } else { Err(Failure::argument(TOKEN, token, why)) }
}
