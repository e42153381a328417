//! The operations, a file for each (or for a few that mirror each other).

mod abort_multipart_upload;
mod acls;
mod bucket_configuration;
mod bucket_cors;
mod bucket_encryption;
mod bucket_lifecycle;
mod bucket_policy;
mod bucket_tagging;
mod bucket_versioning;
mod complete_multipart_upload;
mod copy_object;
mod create_bucket;
mod create_multipart_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
mod follow_object;
mod get_bucket_location;
mod get_object;
mod get_object_attributes;
mod head_bucket;
mod list_buckets;
mod list_multipart_uploads;
mod list_object_versions;
mod list_objects;
mod list_objects_v2;
mod list_parts;
mod object_lock;
mod object_tagging;
mod ownership_controls;
mod public_access;
mod put_object;
mod rename_object;
mod upload_part;
mod upload_part_copy;

use super::call::{Answer, Call};
use super::encryption;
use super::error::{Code, Failure};
use super::operation::Op;

/// Carries a request out. The frequent operations run in place; the others are boxed, so that their futures do not make the
/// frequent ones large.
pub(crate) async fn dispatch(call: &mut Call) -> Answer {
    let secure = call.peer.is_some_and(|peer| peer.secure);
    encryption::check_channel(&call.headers, secure, call.parts.objects.encryption())?;
    match call.op {
        Op::GetObject => get_object::get(call).await,
        Op::HeadObject => get_object::head(call).await,
        Op::PutObject => put_object::call(call).await,
        _ => Box::pin(others(call)).await,
    }
}

async fn others(call: &mut Call) -> Answer {
    match call.op {
        Op::GetObject | Op::HeadObject | Op::PutObject | Op::Options => Err(Code::InternalError.into()),
        Op::AbortMultipartUpload => abort_multipart_upload::call(call).await,
        Op::CompleteMultipartUpload => complete_multipart_upload::call(call).await,
        Op::CloseObject => follow_object::close(call).await,
        Op::CopyObject => copy_object::call(call).await,
        Op::FollowObject => follow_object::follow(call).await,
        Op::CreateBucket => create_bucket::call(call).await,
        Op::CreateMultipartUpload => create_multipart_upload::call(call).await,
        Op::DeleteBucket => delete_bucket::call(call).await,
        Op::DeleteBucketCors => bucket_cors::delete(call).await,
        Op::DeleteBucketLifecycle => bucket_lifecycle::delete(call).await,
        Op::DeleteBucketPolicy => bucket_policy::delete(call).await,
        Op::DeleteBucketOwnershipControls => ownership_controls::delete(call).await,
        Op::DeleteBucketTagging => bucket_tagging::delete(call).await,
        Op::DeleteObject => delete_object::call(call).await,
        Op::DeleteObjectTagging => object_tagging::delete(call).await,
        Op::DeletePublicAccessBlock => public_access::delete(call).await,
        Op::DeleteObjects => delete_objects::call(call).await,
        Op::DeleteBucketEncryption => bucket_encryption::delete(call).await,
        Op::GetBucketEncryption => bucket_encryption::get(call),
        Op::PutBucketEncryption => bucket_encryption::put(call).await,
        Op::GetBucketCors => bucket_cors::get(call),
        Op::GetBucketLifecycleConfiguration => bucket_lifecycle::get(call),
        Op::GetBucketLocation => get_bucket_location::call(call),
        Op::GetBucketPolicy => bucket_policy::get(call).await,
        Op::GetBucketAcl => acls::get_bucket(call).await,
        Op::GetBucketOwnershipControls => ownership_controls::get(call),
        Op::GetBucketPolicyStatus => bucket_policy::status(call),
        Op::GetBucketTagging => bucket_tagging::get(call).await,
        Op::GetObjectAcl => acls::get_object(call).await,
        Op::GetObjectAttributes => get_object_attributes::call(call).await,
        Op::GetObjectTagging => object_tagging::get(call).await,
        // No object has one.
        Op::GetObjectTorrent => Err(Failure::because(Code::NoSuchKey, "There is no torrent of this object.")),
        Op::GetPublicAccessBlock => public_access::get(call),
        Op::HeadBucket => head_bucket::call(call),
        Op::ListBuckets => list_buckets::call(call).await,
        Op::ListMultipartUploads => list_multipart_uploads::call(call).await,
        Op::ListObjectVersions => list_object_versions::call(call).await,
        Op::ListObjects => list_objects::call(call).await,
        Op::ListObjectsV2 => list_objects_v2::call(call).await,
        Op::ListParts => list_parts::call(call).await,
        Op::PutBucketAcl => acls::put_bucket(call).await,
        Op::PutBucketCors => bucket_cors::put(call).await,
        Op::PutBucketLifecycleConfiguration => bucket_lifecycle::put(call).await,
        Op::PutBucketPolicy => bucket_policy::put(call).await,
        Op::PutBucketOwnershipControls => ownership_controls::put(call).await,
        Op::PutBucketTagging => bucket_tagging::put(call).await,
        Op::PutObjectAcl => acls::put_object(call).await,
        Op::PutPublicAccessBlock => public_access::put(call).await,
        Op::PutObjectTagging => object_tagging::put(call).await,
        Op::RenameObject => rename_object::call(call).await,
        Op::UploadPart => upload_part::call(call).await,
        Op::UploadPartCopy => upload_part_copy::call(call).await,
        Op::GetBucketVersioning => bucket_versioning::get(call),
        Op::PutBucketVersioning => bucket_versioning::put(call).await,
        Op::GetObjectLegalHold => object_lock::get_legal_hold(call).await,
        Op::GetObjectLockConfiguration => object_lock::get_configuration(call),
        Op::GetObjectRetention => object_lock::get_retention(call).await,
        Op::PutObjectLegalHold => object_lock::put_legal_hold(call).await,
        Op::PutObjectRetention => object_lock::put_retention(call).await,
        Op::PutObjectLockConfiguration => object_lock::put_configuration(call).await,
        Op::DeleteBucketConfiguration
        | Op::GetBucketAccelerateConfiguration
        | Op::GetBucketConfiguration
        | Op::GetBucketLogging
        | Op::GetBucketNotificationConfiguration
        | Op::GetBucketReplication
        | Op::GetBucketRequestPayment
        | Op::GetBucketWebsite
        | Op::ListBucketConfigurations => bucket_configuration::call(call),
        Op::NotImplemented => Err(Failure::not_implemented("This operation is not implemented.")),
    }
}
