//! When to try again: a pure policy.
