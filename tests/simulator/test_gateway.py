"""What stands before RealtimeKit: tokens, rate limit, request log."""

import pytest

from realtimekit_simulator import DEFAULT_TOKEN

AUTHENTICATION_ERROR = {
    "success": False,
    "errors": [{"code": 10000, "message": "Authentication error"}],
    "messages": [],
    "result": None,
}


class TestTokens:
    @pytest.mark.parametrize("token", [None, "unknown", ""])
    def test_without_a_valid_one_is_401(self, call, token):
        response = call("GET", "/recordings", token=token)
        assert response.status == 401
        assert response.json() == AUTHENTICATION_ERROR

    def test_one_without_the_realtime_permission_is_403(self, simulator, call):
        simulator.tokens.add("dns-only", has_realtime=False)
        response = call("GET", "/recordings", token="dns-only")
        assert response.status == 403
        assert response.json() == AUTHENTICATION_ERROR

    def test_another_account_is_403(self, world, simulator, call):
        url = simulator.app_url.replace(world.account_id, "f" * 32)
        assert call("GET", f"{url}/recordings").status == 403

    def test_come_and_go_while_it_runs(self, simulator, call):
        simulator.tokens.add("new")
        simulator.tokens.revoke(DEFAULT_TOKEN)
        assert call("GET", "/recordings", token="new").status == 200
        assert call("GET", "/recordings").status == 401

    def test_are_asked_for_before_anything_is_told(self, call):
        assert call("GET", "/nowhere", token=None).status == 401
        assert call("GET", "/recordings/1", token=None).status == 401

    def test_basic_authorization_is_of_the_legacy_api_only(self, simulator, pool):
        response = pool.request(
            "GET", simulator.app_url, headers={"Authorization": f"Basic {DEFAULT_TOKEN}"}
        )
        assert response.status == 401

    def test_no_route_is_cloudflares_404(self, simulator, call):
        response = call("GET", f"{simulator.api_url}/zones")
        assert response.status == 404
        assert response.json()["errors"] == [{"code": 7000, "message": "No route for that URI"}]


class TestRateLimit:
    @pytest.fixture
    def time(self, simulator):
        """Real seconds, as the rate limit counts them."""
        now = [1000.0]
        simulator.rate_limit.now = lambda: now[0]
        return now

    def test_is_none_at_first(self, call):
        response = call("GET", "/recordings")
        assert "Ratelimit" not in response.headers

    def test_says_what_is_left(self, simulator, call, time):
        simulator.rate_limit.set(100, window=60, block=300)
        call("GET", "/recordings")
        time[0] += 30
        response = call("GET", "/recordings")

        assert response.headers["Ratelimit"] == '"default";r=98;t=30'
        assert response.headers["Ratelimit-Policy"] == '"default";q=100;w=60'
        assert "retry-after" not in response.headers

    def test_blocks_what_exceeds_it(self, simulator, call, time):
        simulator.rate_limit.set(2, window=60, block=300)
        statuses = [call("GET", "/recordings").status for _ in range(4)]
        response = call("GET", "/sessions")

        assert statuses == [200, 200, 429, 429]
        assert response.status == 429
        assert response.headers["retry-after"] == "300"
        assert response.headers["Ratelimit"] == '"default";r=0;t=300'
        assert response.json()["errors"][0]["code"] == 971

    def test_block_ends(self, simulator, call, time):
        simulator.rate_limit.set(1, window=60, block=300)
        statuses = []
        for wait in (0, 0, 299.5, 0.5, 0):
            time[0] += wait
            statuses.append(call("GET", "/recordings").status)
        assert statuses == [200, 429, 429, 200, 429]

    def test_counts_afresh_in_each_window(self, simulator, call, time):
        simulator.rate_limit.set(2, window=60, block=300)
        statuses = []
        for wait in (0, 59, 1, 0):
            time[0] += wait
            statuses.append(call("GET", "/recordings").status)
        assert statuses == [200, 200, 200, 200]


class TestRequestLog:
    def test_tells_what_was_asked_and_answered(self, simulator, call):
        call("GET", "/recordings?status=UPLOADED&per_page=5")
        call("GET", "/recordings/1")
        first, second = simulator.requests

        assert (first.method, first.status, second.status) == ("GET", 200, 400)
        assert first.path.endswith("/5b1c9d1e-6a0f-4c39-9d7e-2f4b8a6c0d13/recordings")
        assert first.query == "status=UPLOADED&per_page=5"
        assert first.simulated_at.isoformat() == "2026-06-03T12:00:00+00:00"
        assert second.real_at >= first.real_at

    def test_never_tells_the_token(self, simulator, call, control):
        call("GET", "/recordings")
        assert DEFAULT_TOKEN not in repr(simulator.requests)
        assert DEFAULT_TOKEN.encode() not in control("GET", "/requests").data

    def test_leaves_out_the_control_api(self, simulator, control):
        control("GET", "")
        assert simulator.requests == []

    def test_counts_the_refused(self, simulator, call):
        simulator.rate_limit.set(1, window=60, block=300)
        for token in (DEFAULT_TOKEN, None, DEFAULT_TOKEN):
            call("GET", "/recordings", token=token)
        assert [logged.status for logged in simulator.requests] == [200, 429, 429]

    def test_is_searched_by_path_and_method(self, simulator, call):
        for method, path in (("GET", "/recordings"), ("POST", "/meetings"), ("GET", "/meetings")):
            call(method, path, {} if method == "POST" else None)
        assert len(simulator.request_log.matching(r"/meetings$")) == 2
        assert len(simulator.request_log.matching(r"/meetings$", "GET")) == 1
