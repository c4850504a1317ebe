"""The command that serves a trained network: a page to draw on, and answers to pictures in JSON.

It uses what predict makes of a picture, and any room below. Start with app.py; Starlette and
uvicorn, which the extra `serve` brings, are imported there and in running.py only.
"""
