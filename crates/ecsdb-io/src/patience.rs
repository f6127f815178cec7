//! What the medium does not give for once, it may give the next time.

/// How often it is asked.
const ATTEMPTS: u32 = 4;

/// Asks once more, and a few times at most, where the medium did not give what is there, as `is_of_the_medium` says of the error: for what much
/// hangs on, such as a header or a manifest.
///
/// # Errors
/// The last one.
pub fn patiently<T, E>(
    is_of_the_medium: impl Fn(&E) -> bool,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        match ask() {
            Err(e) if is_of_the_medium(&e) && attempts.next().is_some() => {}
            given => return given,
        }
    }
}
