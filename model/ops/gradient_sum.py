"""The exchange of gradients between processes, beside the backward pass where the backend can."""

import functools

import paddle

from model.ops import group

ALONE = 1 << 20  # bytes from which a gradient is sent where it lies; smaller ones are gathered,
BUCKET = 4 << 20  # to so many bytes


def byte_count(tensor):
    """Bytes of a tensor's numbers."""
    return tensor.size * tensor.element_size()


def buckets(parameters):
    """Lists of the parameters whose gradients are sent together, in the order in which they are sent."""
    found, small, size = [], [], 0
    for p in reversed(parameters):
        if byte_count(p) >= ALONE:
            found.append([p])
            continue
        small.append(p)
        size += byte_count(p)
        if size >= BUCKET:
            found.append(small)
            small, size = [], 0
    return [*found, small] if small else found


class GradientSum:
    """Sums parameters' gradients over all processes, while the backward pass still runs where the backend can.

    Gradients of `ALONE` bytes and more are sent where they lie, smaller ones are gathered to buckets. These are sent in
    one order on every process, the reverse of the parameters', each as soon as it and those before it are complete. On
    GPUs NCCL sends beside the computation; gloo returns when the sum is there. A parameter without a gradient gets the
    others' sum.

    Args:
        parameters: all that the step trains; they must be the same on every process.
        ready: called in the backward pass with each parameter of `ALONE` bytes and more whose gradient is complete and
            needs no other process.
    """

    def __init__(self, parameters, ready=None):
        self.buckets = buckets(parameters) if group.world() > 1 else []
        self.sent, self.missing, self.next, self.is_armed, self.lost = [], [], 0, False, None
        for number, bucket in enumerate(self.buckets):
            for p in bucket:
                p._register_backward_hook(functools.partial(self._arrived, number))
        self.ready = ready
        for p in parameters if group.world() == 1 else ():
            if byte_count(p) >= ALONE:
                p._register_backward_hook(functools.partial(self._complete, p))

    def arm(self):
        """Send what the next backward pass completes."""
        self.missing = [len(bucket) for bucket in self.buckets]
        self.next, self.is_armed = 0, True

    def _complete(self, p, *_):
        if self.is_armed and self.ready:
            self.ready(p)

    def _arrived(self, number, *_):
        if self.is_armed:
            self.missing[number] -= 1
            try:
                self._send_complete()
            except group.LostError as error:  # Paddle would print a traceback of what a hook raises
                self.lost, self.is_armed = error, False

    @paddle.no_grad()
    def _send_complete(self):
        while self.next < len(self.buckets) and self.missing[self.next] == 0:
            bucket = self.buckets[self.next]
            self.next += 1
            grads = [p.grad for p in bucket]
            if len(grads) == 1 and grads[0] is not None and grads[0].is_contiguous():
                (tensor,) = grads
            else:
                pairs = zip(bucket, grads, strict=True)
                tensor = paddle.concat(
                    [paddle.zeros([p.size], p.dtype) if g is None else g.flatten() for p, g in pairs]
                )
            self.sent.append((group.all_reduce(tensor, "gradients", wait=False), tensor, bucket, tensor is grads[0]))

    @paddle.no_grad()
    def finish(self):
        """Wait until every gradient is the sum.

        Raises:
            LostError: Another process is gone.
        """
        if self.lost:
            raise self.lost
        self.missing = [0] * len(self.buckets)
        self._send_complete()
        for task, tensor, bucket, is_in_place in self.sent:
            with group.reporting_loss():
                task.wait()
            if is_in_place:
                continue
            for p, part in zip(bucket, paddle.split(tensor, [p.size for p in bucket]), strict=True):
                if p.grad is None:
                    p.grad = part.reshape(p.shape)
                else:
                    paddle.assign(part.reshape(p.shape), output=p.grad)
        self.sent, self.is_armed = [], False
