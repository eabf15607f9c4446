"""Convert one GGUF file to Hugging Face format. Run by the LLM environment's Python, which alone has transformers.

    python convert_gguf.py SOURCE.gguf TARGET_FOLDER

vLLM cannot read GGUF on a CPU. transformers reads it (`gguf_file=`) and de-quantizes; the traces of the quantizer must
go before saving, or the saved configuration would promise GGUF weights to whoever loads it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Write model, configuration and tokenizer of `source` to the folder `target` as bfloat16 safetensors."""
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    folder, name = str(source.parent), source.name
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
