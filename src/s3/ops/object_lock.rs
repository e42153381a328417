//! Retention and legal holds, which no bucket has yet: told as AWS tells it of a bucket without Object Lock.

use crate::s3::call::{Answer, Call};
use crate::s3::error::{Code, Failure};
use crate::s3::operation::Op;

pub(crate) fn call(call: &mut Call) -> Answer {
    match call.op {
        Op::PutObjectLockConfiguration => Err(Code::InvalidBucketState.into()),
        _ => Err(Failure::request("Bucket is missing Object Lock Configuration")),
    }
}
