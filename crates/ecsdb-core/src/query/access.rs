//! What a query does with which component, so that asking for one twice, once of it mutably, does not compile.

/// What a term does with a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

/// What a query does with which components.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// With this component, by its stable name.
    One(&'static str, Mode),
    /// Asks only what there is.
    None,
    /// What each of its parts does.
    All(&'static [Access]),
}

impl Access {
    /// True when it writes something.
    pub(crate) const fn writes(&self) -> bool {
        match self {
            Access::One(_, Mode::Write) => true,
            Access::One(_, Mode::Read) | Access::None => false,
            Access::All(parts) => {
                let mut i = 0;
                while i < parts.len() {
                    if parts[i].writes() {
                        return true;
                    }
                    i += 1;
                }
                false
            }
        }
    }

    /// Its terms, all nested tuples together.
    const fn terms(&self) -> usize {
        let Access::All(parts) = self else { return 1 };
        let (mut i, mut terms) = (0, 0);
        while i < parts.len() {
            terms += parts[i].terms();
            i += 1;
        }
        terms
    }

    /// Fails to compile when a component is asked for twice, once of it mutably.
    pub(crate) const fn assert_valid(&self) {
        assert!(self.terms() <= super::TERMS_MAX, "a query has at most 24 terms");
        if let Access::All(parts) = self {
            let mut i = 0;
            while i < parts.len() {
                parts[i].assert_valid();
                let mut j = 0;
                while j < i {
                    assert!(
                        !conflict(&parts[i], &parts[j]),
                        "a query asks for one component twice, and at least once mutably"
                    );
                    j += 1;
                }
                i += 1;
            }
        }
    }
}

const fn conflict(a: &Access, b: &Access) -> bool {
    match (a, b) {
        (Access::None, _) | (_, Access::None) => false,
        (Access::All(parts), other) | (other, Access::All(parts)) => {
            let mut i = 0;
            while i < parts.len() {
                if conflict(&parts[i], other) {
                    return true;
                }
                i += 1;
            }
            false
        }
        (Access::One(a, a_mode), Access::One(b, b_mode)) => {
            (matches!(a_mode, Mode::Write) || matches!(b_mode, Mode::Write)) && same(a, b)
        }
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
