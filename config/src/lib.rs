//! Configuration: the YAML schema of the desired state, checks, apply, show.
