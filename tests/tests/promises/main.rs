//! The promises, for processes and for guests. And what only these can show.

mod guest_rights;
mod only_guests;
mod processes;

mod peers {
    use locket_test_support::stands::Peers;
    locket_test_support::promises!(Peers[]);
    locket_test_support::promises!(Peers[]: foreign_programs);
}

mod guests {
    use locket_tests::stands::Guests;
    locket_test_support::promises!(Guests[]);
    locket_test_support::promises!(Guests[]: foreign_programs);
}

/// What takes two subjects, so that they can differ in kind.
mod guests_and_native {
    use locket_tests::stands::GuestsAndNative;
    locket_test_support::promises! { GuestsAndNative[]:
        p03_waits p06_release_errors p07_guards p08_one_timeout p09_removal p12_abandoned
        p14_inspect_and_break
    }
}
