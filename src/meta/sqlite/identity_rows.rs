//! Rows of identities in SQLite.

use super::types;
use crate::meta::identities::rows::identity_rows;

identity_rows!(types::Row, types);
