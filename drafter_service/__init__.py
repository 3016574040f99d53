"""The guessers: drafters of several kinds that grow candidate trees and stream them to a verifier."""
