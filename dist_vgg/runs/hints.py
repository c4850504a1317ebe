"""What to use instead of options that other programs have."""

RANKS = "mpirun starts the ranks: mpirun -n N python -m dist_vgg.train"
HINTS = {
    name: hint
    for names, hint in (
        (
            "batch batch-size global-batch bs b",
            "the batch of a step is --micro-batch N of each shard",
        ),
        ("learning-rate base-lr eta", "did you mean --lr?"),
        ("workers num-workers ranks np n nproc procs world-size nodes hostfile", RANKS),
        ("gpu gpus cuda no-cuda device devices", f"it trains on CPUs; {RANKS}"),
        ("threads num-threads", "did you mean --blas-threads?"),
        ("wd l2", "did you mean --weight-decay?"),
        ("opt optim", "did you mean --optimizer?"),
        ("model arch", "did you mean --network? And --width X makes it narrower"),
        ("pretrained finetune fine-tune init-from from-weights", "did you mean --init?"),
        ("output output-dir save-dir save log-dir logdir name", "did you mean --out?"),
        ("dataset data-dir data-path input", "did you mean --data?"),
        ("steps iterations max-steps num-epochs n-epochs", "did you mean --epochs?"),
        (
            "checkpoint load restore continue weights",
            "a run goes on with --resume --out RUN, and a new one starts from weights with --init",
        ),
        ("augment augmentation", "use --rotate, --scale, --shear, --shift and --deform"),
        (
            "amp autocast bf16 half fp16 mixed-precision dtype",
            "did you mean --precision bfloat16?",
        ),
        ("beta1 betas", "did you mean --momentum? It is Adam's beta1, too"),
        ("grad-clip clip-grad max-grad-norm", "did you mean --clip?"),
        ("scheduler lr-scheduler lr-schedule", "did you mean --schedule?"),
        ("val eval", "did you mean --validate?"),
        ("early-stopping", "did you mean --patience?"),
        ("random-seed manual-seed", "did you mean --seed?"),
        ("quiet verbose", "did you mean --progress?"),
    )
    for name in names.split()
}
