"""The laws of speculative decoding in pure numpy: noise, sampling, trees, acceptance, estimates, policies.

Nothing here knows of models, processes or clocks, so that services, simulator and tests run the very same code.
"""
