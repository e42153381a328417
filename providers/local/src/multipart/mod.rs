//! Uploads in parts.
//!
//! A part goes where it will be in the object, if that can be told: the first part whose size is declared sets the *unit*, and
//! part N of at most that size belongs at (N - 1) units in the upload's one data file. Whoever creates the *claim* of that place
//! may write there, once; every other part (larger, of unknown size, or sent again) is a file of its own. When all parts lie
//! where the object wants them, completing it copies nothing.
//!
//! ```text
//! .sluice/uploads/<upload>/unit        the unit, in digits
//! .sluice/uploads/<upload>/data        parts at their places
//! .sluice/uploads/<upload>/lock        shared by those who write to data, exclusive for the one who publishes it
//! .sluice/uploads/<upload>/c.N         the claim of a place; not empty once its part was discarded
//! .sluice/uploads/<upload>/p.N.random  a part of its own
//! ```
//! Tokens are `c.N.size` and `p.N.random`.

mod complete;
mod facet;
mod room;
mod upload;
