"""Training: the loop, the run folder it writes, the background job around it.

To train:     loop (fit, reads from top to bottom) on setup, loading, step, evaluation, checkpoint, control, clock.
To watch:     run (a run's folder) with status, rows, requests, samples; writer fills it, archive packs it.
To judge:     preflight and checks before the start; expectations and diagnosis on the rows; proof at the end.
To hand over: model_card, sampler, fingerprint. Memory is the business of memory and peak, names of terms that of terms.
"""
