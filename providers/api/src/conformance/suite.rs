//! The list of promises, as tests.

/// One `#[tokio::test]` for each promise of the contract. Takes the path of an `async fn() -> Subject` that makes a fresh, empty
/// store. See [`conformance`](mod@crate::conformance).
#[macro_export]
macro_rules! conformance {
    ($fresh:path) => {
        $crate::conformance! { @groups $fresh;
            objects {
                a_read_only_store_refuses_writes
                put_is_read_back
                absent_is_not_found
                put_replaces
                empty_objects
                large_bodies_in_odd_chunks
                ranges
                reads_with_a_condition
                deletes_tell_what_they_found
                deletes_a_thousand_keys
                copies
                copies_onto_itself
                the_seal_is_stored
            }
            atomic {
                a_broken_body_changes_nothing
                nothing_shows_before_the_end
                a_dropped_put_leaves_no_trace
                dropped_anywhere_it_is_before_or_after
                a_dropped_attribute_change_is_whole
                a_refused_put_changes_nothing
            }
            conditions {
                puts_under_conditions
                copies_under_conditions
                deletes_under_conditions
                one_of_many_creates
                one_of_many_replaces
                one_of_many_copies
                a_counter_loses_no_step
                one_of_many_deletes
                a_put_or_a_delete
            }
            keys {
                hard_keys_live_side_by_side
                hard_keys_are_listed_alone
                hard_keys_are_copied
                an_object_and_what_lies_below_it
                no_phantom_prefixes
            }
            listing {
                pages_follow_the_reference
                every_page_size_walks_the_same
                many_keys
                entries_carry_metadata
                known_sizes_are_listed
                prefixes_are_not_paths
                a_walk_among_changes_loses_nothing
            }
            attributes {
                attributes_come_back
                sixty_four_kibibytes
                a_change_keeps_the_object
                racing_changes_all_arrive
                a_change_never_undoes_a_put
            }
            multipart {
                parts_become_one_object
                one_part_and_empty_parts
                a_thousand_small_parts
                parts_at_the_same_time
                a_part_sent_again
                discarding_spares_the_rest
                only_the_listed_parts
                a_broken_part_spares_the_rest
                complete_under_conditions
                one_of_many_completes
                the_same_complete_twice
                abort_frees_everything
                no_upload_no_parts
                uploads_do_not_show
                uploads_to_hard_keys
                a_dropped_complete_is_whole
            }
            concurrency {
                readers_never_see_a_mix
                the_last_writer_stays_whole
                neighbours_come_and_go
                an_open_object_stays_as_it_was
                peers_see_each_other
            }
            versions {
                what_is_replaced_is_kept
                a_marker_hides_the_key
                null_is_one_version
                versions_of_hard_keys
                pages_of_versions
                racing_writers_lose_nothing
                racing_removals_take_only_theirs
                conditions_look_at_the_current_one
                a_guard_has_the_last_word
                a_version_without_its_bytes
                attributes_of_versions
                copies_of_versions
                uploads_become_versions
            }
            growing {
                objects_grow
                only_at_the_end
                a_refused_append_changes_nothing
                attributes_grow_with_it
                racing_appends_lose_nothing
                readers_of_what_grows_see_a_state
                objects_get_other_names
                renames_under_conditions
                one_of_many_renames
            }
        }

        #[test]
        fn model() {
            $crate::conformance::model($fresh, $crate::conformance::cases());
        }

        #[test]
        fn versions_model() {
            $crate::conformance::versions_model($fresh, $crate::conformance::cases());
        }
    };
    (@groups $fresh:path; $($group:ident { $($promise:ident)* })*) => {
        $($crate::conformance! { @group $fresh; $group { $($promise)* } })*
    };
    (@group $fresh:path; $group:ident { $($promise:ident)* }) => {
        mod $group {
            #[allow(unused_imports, reason = "the path of the factory may need none of them")]
            use super::*;
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $promise() {
                    let subject = $fresh().await;
                    if subject.writable() {
                        $crate::conformance::$group::$promise(&subject).await;
                    } else {
                        $crate::conformance::objects::a_read_only_store_refuses_writes(&subject).await;
                    }
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_promise_is_in_the_list() {
        let list = include_str!("suite.rs").split("#[cfg(test)]").next().unwrap_or_default();
        for (group, source) in [
            ("objects", include_str!("objects.rs")),
            ("atomic", include_str!("atomic.rs")),
            ("conditions", include_str!("conditions.rs")),
            ("keys", include_str!("keys.rs")),
            ("listing", include_str!("listing.rs")),
            ("attributes", include_str!("attributes.rs")),
            ("multipart", include_str!("multipart.rs")),
            ("concurrency", include_str!("concurrency.rs")),
            ("versions", include_str!("versions.rs")),
            ("growing", include_str!("growing.rs")),
        ] {
            let listed = list.split(&format!(" {group} {{\n")).nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let listed: Vec<_> = listed.split_whitespace().collect();
            let written: Vec<_> =
                source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next()).collect();
            assert_eq!(listed, written, "{group}");
            assert!(!written.is_empty());
        }
    }
}
