//! What the comparison is made of.

pub(crate) mod bare;
pub(crate) mod fleet;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod upstream;
