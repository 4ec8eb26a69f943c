//! Postcard in messages of bounded size.

use std::io;

use serde::{Serialize, de::DeserializeOwned};

use crate::protocol::MESSAGE_SIZE_MAX;

/// Encodes a message.
///
/// # Errors
/// InvalidInput when it would be larger than [`MESSAGE_SIZE_MAX`].
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MESSAGE_SIZE_MAX { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(bytes) }
}

/// Decodes a whole message.
///
/// # Errors
/// InvalidData when it is not one, or more than one.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
