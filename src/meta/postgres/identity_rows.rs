//! Rows of identities in PostgreSQL.

use super::types;
use crate::meta::identities::rows::identity_rows;

identity_rows!(types::Row, types);
