"""Train one step of a tiny model on each export for TRL, on a CPU and without a download.

    python -m examples.training.trl_steps var/training/trl

The directory has ``sft.jsonl``, ``prompt-completion.jsonl``, ``dpo.jsonl``, ``kto.jsonl`` and
``stepwise.jsonl``; a file that is not there is left out. Tokenizer and model are made here: a
tokenizer of bytes with the chat template of Qwen3, and a Qwen3 of two layers with random weights.
So the loss means nothing; the step shows that TRL takes the columns. To train, give the trainers a
real model.

TRL 1.16 has no trainer for stepwise supervision. Its file is trained as a classifier of tokens:
each step ends with a separator, whose class is the label of the step.

Needs torch (a CPU build is enough) and ``trl==1.16.*``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded, and no telemetry is sent

import torch
from datasets import Dataset, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
from trl.data_utils import is_conversational

IGNORED = -100
"""Label of a token that has no class."""
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<step>")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=64, help="rows of each file that are read")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    found = [name for name in STEPS if (arguments.directory / f"{name}.jsonl").exists()]
    if not found:
        parser.error(f"{arguments.directory} has none of {', '.join(f'{name}.jsonl' for name in STEPS)}.")
    with tempfile.TemporaryDirectory() as model:
        _save(model)
        for name in found:
            path = str(arguments.directory / f"{name}.jsonl")
            rows = load_dataset("json", data_files=path, split=f"train[:{arguments.rows}]")
            with tempfile.TemporaryDirectory() as output:
                loss = STEPS[name](model, rows, output)
            print(f"{name:18} {len(rows)} rows, columns {', '.join(rows.column_names)}; loss {loss:.3f}", flush=True)


def _sft(model: str, rows: Dataset, output: str) -> float:
    return _step(SFTTrainer(model, SFTConfig(output, max_length=None, **_ONE_STEP), train_dataset=_checked(rows)))


def _dpo(model: str, rows: Dataset, output: str) -> float:
    return _step(DPOTrainer(model, args=DPOConfig(output, max_length=None, **_ONE_STEP), train_dataset=_checked(rows)))


def _kto(model: str, rows: Dataset, output: str) -> float:
    return _step(KTOTrainer(model, args=KTOConfig(output, max_length=None, **_ONE_STEP), train_dataset=_checked(rows)))


def _checked(rows: Dataset) -> Dataset:
    if not is_conversational(rows[0]):
        raise SystemExit(f"TRL does not take {rows.column_names} as a conversation.")
    return rows


def _stepwise(model: str, rows: Dataset, output: str) -> float:
    tokenizer = AutoTokenizer.from_pretrained(model)
    labelled = rows.map(lambda row: _labelled(row, tokenizer), remove_columns=rows.column_names)
    trainer = Trainer(
        AutoModelForTokenClassification.from_pretrained(model, num_labels=2),
        TrainingArguments(output, **_ONE_STEP),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=labelled,
    )
    return _step(trainer)


def _labelled(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    ids = tokenizer(row["prompt"]).input_ids
    labels = [IGNORED] * len(ids)
    for step, label in zip(row["completions"], row["labels"], strict=True):
        of_step = tokenizer(f"{step}<step>").input_ids
        ids += of_step
        labels += [IGNORED] * (len(of_step) - 1) + [int(label)]
    return {"input_ids": ids, "labels": labels}


STEPS: dict[str, Callable[[str, Dataset, str], float]] = {
    "sft": _sft,
    "prompt-completion": _sft,
    "dpo": _dpo,
    "kto": _kto,
    "stepwise": _stepwise,
}
_ONE_STEP: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_strategy": "no",
}


def _step(trainer: Trainer) -> float:
    """Train, and return the loss. At least one weight must have changed."""
    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    loss = float(trainer.train().training_loss)
    pairs = zip(before, trainer.model.parameters(), strict=True)
    if not any((old != new.detach().cpu()).any() for old, new in pairs):
        raise SystemExit("The step changed no weight.")
    return loss


def _save(directory: str) -> None:
    """Save a model with random weights, and its tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    of_bytes = Tokenizer(models.BPE({text: number for number, text in enumerate((*_SPECIAL, *alphabet))}, []))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    of_bytes.add_special_tokens(list(_SPECIAL))
    end = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes, **end)
    tokenizer.chat_template = (files("trl") / "chat_templates" / "qwen3.jinja").read_text()
    tokenizer.save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)


if __name__ == "__main__":
    main()
