"""What only a GPU can show, and a model of its speed; `gpu_check` beside this folder runs it all."""
