"""Smooth functions on the face: eigenfunctions of the cotangent Laplacian, split by mirror symmetry."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh


def cotangent_laplacian(vertices: np.ndarray, triangles: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """The Laplace-Beltrami operator of a triangle mesh (Pinkall and Polthier 1993), free at the border.

    Args:
        vertices: (V, 3).
        triangles: (F, 3) int64.

    Returns:
        positive semi-definite stiffness matrix (V, V) and the area that belongs to each vertex (V,), both for
        `stiffness @ f = eigenvalue * area * f`. Unused vertices have zero area.
    """
    count = len(vertices)
    rows, columns, weights = [], [], []
    for corner in range(3):
        a, b, c = triangles[:, corner], triangles[:, (corner + 1) % 3], triangles[:, (corner + 2) % 3]
        to_b, to_c = vertices[b] - vertices[a], vertices[c] - vertices[a]
        sine = np.linalg.norm(np.cross(to_b, to_c), axis=1)
        # Slivers have huge cotangents of either sign; clipping keeps the matrix positive.
        cotangent = np.clip((to_b * to_c).sum(1) / np.maximum(sine, 1e-12), 0.0, 20.0)
        rows.append(b)
        columns.append(c)
        weights.append(cotangent / 2)
    rows, columns, weights = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
    adjacency = sparse.coo_array((weights, (rows, columns)), shape=(count, count)).tocsr()
    adjacency = adjacency + adjacency.T
    stiffness = sparse.diags_array(np.asarray(adjacency.sum(1)).ravel()) - adjacency
    corners = vertices[triangles]
    face_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    area = np.zeros(count)
    for corner in range(3):
        np.add.at(area, triangles[:, corner], face_area / 3)
    return stiffness.tocsr(), area


def symmetric_harmonics(
    vertices: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, modes: int, antisymmetric: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The smoothest functions that are equal (or opposite) on both sides of the face.

    Args:
        vertices: (V, 3) decimetres.
        triangles: (F, 3) int64; vertices they don't use get 0.
        mirror: (V,) int64, the vertex on the other side.
        modes: how many.
        antisymmetric: opposite instead of equal.

    Returns:
        functions (modes, V), each with a mean square of 1 over the surface, ordered from smooth to rough (the first
        symmetric one is constant), and eigenvalues (modes,) in 1/dm^2.
    """
    stiffness, area = cotangent_laplacian(vertices, triangles)
    used = np.flatnonzero(area > 0)
    left = used[used < mirror[used]]
    middle = used[used == mirror[used]]
    column = np.arange(len(left))
    sign = -1.0 if antisymmetric else 1.0
    rows = np.concatenate([left, mirror[left]])
    columns = np.concatenate([column, column])
    values = np.concatenate([np.ones(len(left)), np.full(len(left), sign)])
    width = len(left)
    if not antisymmetric:
        rows = np.concatenate([rows, middle])
        columns = np.concatenate([columns, width + np.arange(len(middle))])
        values = np.concatenate([values, np.ones(len(middle))])
        width += len(middle)
    lift = sparse.csr_array((values, (rows, columns)), shape=(len(vertices), width))
    mass = (lift.T @ sparse.diags_array(area) @ lift).tocsc()
    # A fixed start vector instead of scipy's random one: the same file from every build.
    start = np.random.default_rng(0).standard_normal(width)
    eigenvalues, folded = eigsh((lift.T @ stiffness @ lift).tocsc(), k=modes, M=mass, sigma=-1e-3, v0=start)
    order = np.argsort(eigenvalues)
    functions = (lift @ folded[:, order]).T * np.sqrt(area.sum())
    # Eigenvectors come with an arbitrary sign: a fixed one keeps the built file reproducible.
    peak = np.take_along_axis(functions, np.abs(functions).argmax(1)[:, None], axis=1)
    return functions * np.sign(peak), np.maximum(eigenvalues[order], 0.0)
