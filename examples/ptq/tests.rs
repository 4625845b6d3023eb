//! The folded network, what undoes scaling, and the command line.
