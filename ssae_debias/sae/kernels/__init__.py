"""A training step's sparse parts as Triton kernels: what stays to be done on a GPU once the encoder's product is.

The encoder's product is the GPU library's. All else touches a few latents per token, and is limited by memory:
these kernels read the pre-activations once and each weight row as seldom as can be.

- `language`: Triton where it is installed, and the reason where the kernels cannot run;
- `rounding`: bfloat16 copies with a proven bound on what rounding can do to a pre-activation;
- `candidates`, `cuts`: from pre-activations to the entries that may be active, and from these to those that are;
- `selection`: the two together, chunk by chunk: the codes of a batch;
- `decoding`: codes to reconstruction, residual, squared error and the codes' gradient, in one kernel;
- `transposition`: the codes by latent, and popular latents' work in parts of equal size;
- `rows`: both weight gradients of a latent, and `updates`: Adam's update of its rows, in the same program.

Every sum is taken in a fixed order, so that results repeat bit for bit. `ssae_debias.sae.steps.triton_step` makes
training steps of them.

Without a GPU the kernels run under Triton's interpreter (``TRITON_INTERPRET=1``, set before the first import):
slow, and meant for tests. Importing this package needs no Triton; importing one of its modules loads it if it is
there.

References
----------
Tillet, Kung, Cox: "Triton: an intermediate language and compiler for tiled neural network computations", 2019.
Gao et al.: "Scaling and evaluating sparse autoencoders", 2024, appendix D (sparse kernels for TopK).
"""
