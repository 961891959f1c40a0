"""Bugs that other trainers have shipped, and which tests here would fail if whet had them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GUARDS = {
    "a save that is not atomic (Lightning 688, 19970)": [
        "engine/test_checkpoint.py::test_whichever_write_fails_the_old_or_the_new_checkpoint_is_whole",
        "faults/test_every_write.py::test_a_checkpoint_is_the_old_or_the_new_one_whichever_call_fails",
        "faults/test_every_write.py::test_a_run_ends_the_same_whichever_call_fails",
    ],
    "processes that rename one staging folder (transformers 27925, 28015)": [
        "test_mistakes.py::test_two_processes_do_not_work_on_one_run",
        "test_mistakes.py::test_a_run_that_another_process_made_meanwhile_is_not_written_over",
        "parallel/test_parallel.py::test_stopped_and_gone_on_with_two_devices_ends_in_the_same_bytes",
    ],
    "retention that deletes the best or the last checkpoint (transformers 15089, 11748)": [
        "engine/test_checkpoint.py::test_retention_keeps_the_last_and_the_best",
        "engine/test_checkpoint.py::test_damaged_later_checkpoints_do_not_push_out_good_ones",
    ],
    "random numbers restored at the wrong moment (transformers 17032, 46628)": [
        "test_kill.py::test_a_killed_run_ends_in_the_same_bytes",
        "test_kill.py::test_killed_at_a_random_moment_a_run_ends_in_the_same_bytes",
    ],
    "skipped batches that reset the sampler's epoch (accelerate 4071)": [
        "engine/test_cut_and_order.py::test_each_epoch_has_every_row_once_and_a_cursor_goes_on_from_anywhere",
        "streaming/test_streaming.py::test_from_any_step_the_same_rows_follow_and_nothing_is_tokenised_again",
    ],
    "saving inside a signal handler (Lightning 21406)": [
        "test_kill.py::test_asked_to_stop_at_a_random_moment_a_run_is_saved_and_goes_on_to_the_same_end",
        "test_mistakes.py::test_interrupted_between_the_steps_the_run_can_be_resumed",
    ],
    "resuming from a truncated checkpoint (unsloth 6796)": [
        "engine/test_checkpoint.py::test_an_altered_byte_is_noticed_and_the_checkpoint_before_is_used"
    ],
    "accumulation that changes the loss (transformers 37766, 35438)": [
        "objectives/test_objective_laws.py::test_objective_keeps_the_law",
        "engine/test_fit.py::test_losses_are_the_mean_over_supervised_tokens",
        "parallel/test_two_workers.py::test_two_workers_have_the_loss_of_one_process",
    ],
    "a partial last window of accumulation (ms-swift 10084)": [
        "engine/test_fit.py::test_the_smaller_last_step_of_an_epoch_is_the_mean_over_its_own_tokens"
    ],
    "a mask of the assistant's turns that is all zeros or all ones (marin 7237, Megatron-Bridge 3359)": [
        "models/test_template.py::test_only_the_assistants_turns_are_learnt",
        "data/test_preflight.py::test_nothing_to_learn_is_refused",
    ],
    "padding with the end token, so that no text ends (transformers 23530, TRL 976)": [
        "models/test_template.py::test_an_end_that_is_also_the_padding_is_learnt",
        "models/test_template.py::test_the_end_of_each_answer_is_learnt",
        "engine/test_fit.py::test_padding_with_the_token_that_ends_a_text_changes_no_loss",
    ],
    "two start tokens, or training behind other tokens than in use (TRL 1400, OpenRLHF 393)": [
        "models/test_template.py::test_there_is_one_start_token",
        "models/test_template.py::test_every_prompt_in_use_is_the_beginning_of_the_training_row",
    ],
    "packing that leaks attention or positions (transformers 46634, LLaMA-Factory 7318)": [
        "engine/test_attention.py::test_a_row_does_not_see_its_neighbours",
        "engine/test_attention.py::test_an_architecture_that_leaks_between_rows_is_padded",
        "matrix/test_architectures.py::test_packed_equals_padded_or_the_architecture_is_padded",
    ],
    "a loss that is no number shown as the last finite one (unsloth 6016)": [
        "engine/test_fit.py::test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_rows",
        "test_mistakes.py::test_a_loss_that_is_not_finite_names_the_rows",
    ],
    "truncation that is not applied, or drops in silence (axolotl 3401)": [
        "objectives/test_objective_laws.py::test_no_row_is_longer_than_it_may_be",
        "test_mistakes.py::test_texts_that_are_cut_are_counted",
        "data/test_preflight.py::test_cut_rows_and_lost_answers_are_counted",
    ],
    "a template that loses reasoning or tokens (TRL 6363)": [
        "models/test_template.py::test_a_template_that_rewrites_earlier_turns_is_refused"
    ],
    "a merge that does nothing or gives garbage, tied embeddings (unsloth 869, peft 2368, 1836)": [
        "techniques/test_technique_laws.py::test_technique_keeps_the_law",
        "matrix/test_architectures.py::test_merged_and_saved_it_is_a_plain_model_of_transformers",
        "models/test_load.py::test_tied_embeddings_stay_tied_and_are_saved_once",
    ],
    "new tokens that cannot be loaded again (peft 1457)": [
        "models/test_load.py::test_tokens_without_a_row_in_the_weights_are_refused"
    ],
    "rows that were prepared for something else (datasets 3297)": [
        "streaming/test_token_key.py::test_whatever_decides_tokens_makes_another_key",
        "streaming/test_kept_rows.py::test_a_change_of_what_decides_is_never_answered_with_what_was_kept",
        "streaming/test_streaming.py::test_a_changed_text_setting_or_model_finds_nothing_that_was_kept",
    ],
    "rows of the test part that are learnt from (datasets 4261, OpenTextShield 195)": [
        "data/test_dataset.py::test_rows_of_the_test_file_leave_training_and_the_test_file_stays",
        "data/test_dividing.py::test_near_leaks_leave_training_and_too_many_are_refused_with_the_pairs",
        "streaming/test_streaming.py::test_each_training_text_comes_once_an_epoch_and_no_held_out_one_ever",
    ],
    "an evaluation that depends on the batch (lm-eval 3055)": [
        "objectives/test_objective_laws.py::test_objective_keeps_the_law",
        "engine/test_generate.py::test_a_text_does_not_depend_on_its_batch",
    ],
    "an evaluation that keeps every logit (transformers 15466)": [
        "engine/test_fit.py::test_an_evaluation_never_holds_the_logits_of_all_tokens"
    ],
    "exit code 0 on failure (autotrain 877)": [
        "test_mistakes.py::test_a_mistake_is_named_and_leaves_nothing_behind",
        "test_mistakes.py::test_a_plugin_that_ends_the_program_is_no_success",
    ],
}


@cache
def named_in(file: str) -> frozenset[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("bug", GUARDS)
def test_each_bug_has_tests_that_are_there(bug):
    for guard in GUARDS[bug]:
        file, name = guard.split("::")
        assert name in named_in(file), f"{guard} is gone; name what took its place"
