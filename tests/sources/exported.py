"""Records in the forms that Label Studio, Argilla and ChatGPT publish for their exports, made up."""

from __future__ import annotations

import uuid
from typing import Any

THINGS = ("card", "phone", "ticket", "parcel", "invoice", "account", "password", "refund", "train", "contract")


def text_of(number: int) -> str:
    words = f"{THINGS[number % 10]} {THINGS[(number // 10 + 3 * number) % 10]}"
    return f"request {number * 7919 % 1009}: the {words} is {'gone' if number % 2 else 'late'} since day {number * 31 % 97}"


def task(number: int, shown: dict[str, Any], people: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """A task in the format JSON, with one annotation for each list of results."""
    annotations = [
        {
            "id": 1000 + number, "completed_by": place + 1, "result": result, "was_cancelled": False, "ground_truth": False,
            "created_at": "2024-03-09T22:16:08.728353Z", "updated_at": "2024-03-09T22:16:08.728378Z", "draft_created_at": None,
            "lead_time": 4.288, "prediction": {}, "result_count": len(result), "unique_id": str(uuid.UUID(int=number)),
            "import_id": None, "last_action": None, "task": number, "project": 83, "updated_by": 1, "parent_prediction": None,
            "parent_annotation": None, "last_created_by": None,
        }
        for place, result in enumerate(people)
    ]  # fmt: skip
    return {
        "id": number, "annotations": annotations, "file_upload": "1b8d-rows.csv", "drafts": [], "predictions": [], "data": shown,
        "meta": {}, "created_at": "2024-03-09T21:52:49.513742Z", "updated_at": "2024-03-09T22:16:08.746926Z", "inner_id": number,
        "total_annotations": len(annotations), "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0,
        "unresolved_comment_count": 0, "last_comment_updated_at": None, "project": 83, "updated_by": 1, "comment_authors": [],
    }  # fmt: skip


def label_studio_tasks(count: int) -> list[dict[str, Any]]:
    return [
        task(
            number, {"text": text_of(number)},
            [[{"value": {"choices": ["lost" if number % 2 else "slow"]}, "id": "abc", "from_name": "label", "to_name": "text",
               "type": "choices", "origin": "manual"}]],
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


def label_studio_short(count: int) -> list[dict[str, Any]]:
    """The format JSON-MIN."""
    return [
        {
            "text": text_of(number), "id": number, "sentiment": "lost" if number % 2 else "slow", "annotator": 1,
            "annotation_id": number, "created_at": "2024-03-09T22:16:08.728353Z", "updated_at": "2024-03-09T22:16:08.728378Z",
            "lead_time": 1.5 + number,
        }
        for number in range(1, count + 1)
    ]  # fmt: skip


def argilla_records(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid.UUID(int=number)), "status": "completed", "_server_id": str(uuid.UUID(int=number + 10**6)),
            "fields": {"text": text_of(number)}, "metadata": {"split": "train"}, "vectors": {}, "suggestions": {},
            "responses": {"label": [{"value": "lost" if number % 2 else "slow", "user_id": str(uuid.UUID(int=1))}]},
        }
        for number in range(1, count + 1)
    ]  # fmt: skip


def chatgpt(count: int) -> list[dict[str, Any]]:
    found = []
    for number in range(1, count + 1):
        texts = [("user", text_of(number) + "?"), ("assistant", f"I see, {text_of(number)}. Wait {number} days.")]
        nodes: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": ["m0"]}}
        for place, (role, text) in enumerate(texts):
            nodes[f"m{place}"] = {
                "id": f"m{place}", "parent": f"m{place - 1}" if place else "root", "children": [f"m{place + 1}"] if place == 0 else [],
                "message": {
                    "id": f"m{place}", "author": {"role": role, "name": None, "metadata": {}}, "create_time": 1700000000.5 + place,
                    "update_time": None, "content": {"content_type": "text", "parts": [text]}, "status": "finished_successfully",
                    "end_turn": True, "weight": 1.0, "metadata": {}, "recipient": "all", "channel": None,
                },
            }  # fmt: skip
        found.append(
            {
                "title": f"Talk {number}", "create_time": 1700000000.5 + number, "update_time": 1700000100.5, "mapping": nodes,
                "moderation_results": [], "current_node": "m1", "plugin_ids": None, "conversation_id": str(uuid.UUID(int=number)),
                "conversation_template_id": None, "gizmo_id": None, "is_archived": False, "safe_urls": [],
            }
        )  # fmt: skip
    return found
