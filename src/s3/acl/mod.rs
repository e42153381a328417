//! Access control lists on the wire and at work.
//!
//! - `wish` reads what a request wants granted, from headers and documents, and says what a new object keeps of it.
//! - `decision` is the only place where a list decides about a request.
//! - `ownership` and `public_access` are the bucket's documents that overrule lists.
//! - `document` shows lists.
//!
//! A bucket's list is its settings document [`SETTING`]; an object's is an attribute. Neither is there while everything is private,
//! so that requests of owners cost nothing.

mod decision;
mod document;
mod ownership;
mod people;
mod public_access;
mod wish;

pub(crate) use decision::{
    bucket_allows, bucket_list, check_object, is_public_bucket, may_use, object_list, object_owner, told, upload_owner,
};
pub(crate) use document::to_xml;
pub(crate) use ownership::Ownership;
pub(crate) use people::People;
pub(crate) use public_access::PublicAccessBlock;
pub(crate) use wish::{Wish, new_object};

/// The settings document that holds a bucket's list.
pub(crate) const SETTING: &str = "acl";
