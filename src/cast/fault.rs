//! What the casts say to their column: a fault's class decides which policy speaks about it.

use std::borrow::Cow;

/// Which policy decides about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Nul,
    Nan,
    InvalidUtf8,
    Overflow,
    TooLong,
    Unreadable,
    /// No policy: always a refusal.
    Final,
}

/// A value that cannot be stored as it is. The column adds what was found.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) reason: &'static str,
    /// What is wrong or allowed, without the value.
    pub(super) what: Cow<'static, str>,
    /// False when `what` quotes all a person needs.
    pub(super) show_value: bool,
}

impl Fault {
    pub(super) fn new(
        class: Class,
        reason: &'static str,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { class, reason, what: what.into(), show_value: true }
    }

    pub(super) fn wrong_type(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unreadable, "wrong_type", what)
    }

    pub(super) fn timestamp(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unreadable, "invalid_timestamp", what)
    }

    /// The value has digits below what the target keeps.
    pub(super) fn precision(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unreadable, "precision", what)
    }
}

/// The rule under which a replacement was stored; None when the value is the source's.
pub(super) type Changed = Option<&'static str>;
