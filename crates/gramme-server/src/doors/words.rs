//! Words that mean the same at every door: levels, names of writes, what comes with a value. An error is a sentence
//! for the client.

use gramme_core::bucket::Level;
use gramme_core::limits::{CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX, META_ENTRIES_MAX};
use gramme_core::{Layout, RequestId};
use md5::{Digest, Md5};

/// How many answers, within what the cluster keeps; `name` is what the client calls it.
pub(crate) fn level(name: &str, text: &str, layout: &Layout) -> Result<Level, String> {
    let level = Level::parse(text).ok_or_else(|| bad_level(name, text))?;
    level.resolve(layout.n()).map_err(|e| format!("{name}: {e}"))?;
    Ok(level)
}

/// How many of them must be homes.
pub(crate) fn homes(name: &str, text: &str, layout: &Layout) -> Result<u8, String> {
    let homes = level(name, text, layout)?.resolve(layout.n());
    homes.map(|homes| homes as u8).map_err(|e| e.to_string())
}

/// Why a level was refused.
pub(crate) fn bad_level(name: &str, text: &str) -> String {
    format!("{name} is {text:?}: use one, quorum, all or a number from 1")
}

/// A client's name for a write: 32 hexadecimal digits are the request id itself, any other text stands for one.
pub(crate) fn request(name: &str, text: &str) -> Result<RequestId, String> {
    if text.is_empty() || text.len() > REQUEST_NAME_BYTES_MAX {
        return Err(format!("{name} must have 1 to {REQUEST_NAME_BYTES_MAX} characters"));
    }
    Ok(text.parse().unwrap_or_else(|_| {
        let digest: [u8; 16] = Md5::digest(text.as_bytes()).into();
        RequestId(u128::from_be_bytes(digest))
    }))
}

/// Whether a media type can be kept.
pub(crate) fn check_content_type(name: &str, media: &[u8]) -> Result<(), String> {
    if media.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(format!("the {name} is longer than {CONTENT_TYPE_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Whether so much metadata can be kept.
pub(crate) fn check_meta(entries: usize, bytes: usize) -> Result<(), String> {
    if entries > META_ENTRIES_MAX || bytes > META_BYTES_MAX {
        return Err(format!(
            "the metadata has {entries} entries of {bytes} bytes: at most {META_ENTRIES_MAX} of {META_BYTES_MAX} bytes together are allowed"
        ));
    }
    Ok(())
}

/// An ETag without its quotes.
pub(crate) fn tag(name: &str, text: &str) -> Result<u64, String> {
    let digits = Some(text).filter(|text| text.len() == 16);
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        format!("{name} is {text:?}: use one ETag as a read gave it, such as 00c0ffee00c0ffee")
    })
}

/// "did you mean", with what there is if nothing is near.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let hint = match crate::nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", known.join(", ")),
    };
    format!("unknown {what} {word:?}: {hint}")
}

const REQUEST_NAME_BYTES_MAX: usize = 255;
