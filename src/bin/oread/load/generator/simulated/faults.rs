//! One run for each fault that there was.
