import pytest

from chat_server import ScriptedChatServer

KEY = "sk-secret-0123456789"


@pytest.fixture
def server(monkeypatch):
    """A scripted chat server; the environment has the key of both providers."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    with ScriptedChatServer() as server:
        yield server
