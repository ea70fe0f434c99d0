"""Arcade: a small web application that needs sessions, rate limits, a lock and a leaderboard all at once.

``python -m demo`` runs it with simulated players and checks what they saw; ``uvicorn demo.app:app`` runs it alone.
"""
